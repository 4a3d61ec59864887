# libstrata: one object library for the portable code and one per instruction set. Only NAME_<isa>.c gets ISA flags.
file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*.c)
list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.c$")

function(strata_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include ${gen})
  target_link_libraries(${name} PRIVATE strata_flags)
  set_property(GLOBAL APPEND PROPERTY strata_objects $<TARGET_OBJECTS:${name}>)
endfunction()

# strata_isa(NAME flags...): the files NAME_<isa>.c, left out on other processors
function(strata_isa isa)
  set(files ${sources})
  list(FILTER files INCLUDE REGEX "_${isa}\\.c$")
  if(files AND STRATA_X86)
    strata_objects(strata_${isa} ${files})
    target_compile_options(strata_${isa} PRIVATE ${ARGN} -ffp-contract=fast -fno-lto)
  endif()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(STRATA_X86 1)
else()
  set(STRATA_X86 0)
  message(WARNING "${CMAKE_SYSTEM_PROCESSOR}: only the portable variants are built")
endif()
target_compile_definitions(strata_flags INTERFACE STRATA_X86=${STRATA_X86})
strata_isa(avx2 -march=x86-64-v3)
strata_isa(avx512 -march=x86-64-v4)
strata_isa(avx512bf16 -march=x86-64-v4 -mavx512bf16)

set(portable ${sources})
list(FILTER portable EXCLUDE REGEX "_(avx2|avx512|avx512bf16)\\.c$")
# NAME_ref.c is the oracle: no contraction, no reordering
set(ref ${portable})
list(FILTER ref INCLUDE REGEX "_ref\\.c$")
set_source_files_properties(${ref} PROPERTIES COMPILE_OPTIONS "-O2;-ffp-contract=off")
strata_objects(strata_portable ${portable})

if(STRATA_HAVE_CUDA)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*_cuda.cu ${CMAKE_SOURCE_DIR}/src/*_sm90.cu)
  if(cuda_sources)
    strata_objects(strata_cuda ${cuda_sources})
  endif()
endif()

# Both libraries are made of the same objects. Names in an installed tree: strata::strata and strata::strata_static.
get_property(objects GLOBAL PROPERTY strata_objects)
add_library(strata_static STATIC ${objects})
add_library(strata_shared SHARED ${objects})
foreach(lib strata_static strata_shared)
  set_target_properties(${lib} PROPERTIES OUTPUT_NAME strata)
  target_include_directories(${lib} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  target_link_libraries(${lib} PRIVATE $<BUILD_INTERFACE:strata_flags>)
endforeach()
target_link_libraries(strata_static INTERFACE "$<INSTALL_INTERFACE:${strata_libs}>")
set_target_properties(strata_shared PROPERTIES EXPORT_NAME strata VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/strata.map)
target_link_options(strata_shared PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/strata.map)
if(NOT STRATA_SANITIZE)
  target_link_options(strata_shared PRIVATE LINKER:--no-undefined)
endif()

# The program sees include/strata and the shared library only.
file(GLOB cli_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cli/*.c)
list(FILTER cli_sources EXCLUDE REGEX "_test\\.c$")
if(cli_sources)
  add_executable(strata ${cli_sources})
  target_link_libraries(strata PRIVATE strata_shared strata_flags)
endif()
