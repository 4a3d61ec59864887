# The folder list is the registry. A folder src/FAMILY/NAME with a README.md is a component: it exports
# sti_<class>_class_NAME (kernels: a self-test), and generated/registry/FAMILY.def has one line X(NAME) for it.
set(gen ${CMAKE_BINARY_DIR}/generated)
foreach(family operator linalg mixer layer model task kernel io/tokenizer)
  file(GLOB readmes CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/src/${family}
    ${CMAKE_SOURCE_DIR}/src/${family}/*/README.md)
  list(SORT readmes)
  set(text "")
  foreach(readme ${readmes})
    get_filename_component(name ${readme} DIRECTORY)
    string(APPEND text "X(${name})\n")
  endforeach()
  file(CONFIGURE OUTPUT ${gen}/registry/${family}.def CONTENT "${text}" @ONLY) # written only when it differs
endforeach()
