# Examples are tests: each source ends with its expected output, which tests/cli/examples.sh compares.
file(GLOB example_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/examples/*.c)
if(STRATA_TESTS)
  foreach(f ${example_sources})
    get_filename_component(name ${f} NAME_WE)
    add_executable(example_${name} ${f})
    target_link_libraries(example_${name} PRIVATE strata_shared strata_flags)
  endforeach()
endif()
