# Tests: one program per NAME_test.c, beside its component or under tests/, linked with the static library.
# tests.list names them all for tests/suite.
if(NOT STRATA_TESTS)
  return()
endif()
enable_testing()
file(GLOB support CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.c)
list(FILTER support EXCLUDE REGEX "isa_probe")
add_library(test_support STATIC ${support})
target_include_directories(test_support PUBLIC ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src ${gen})
target_link_libraries(test_support PUBLIC strata_static strata_flags)

# Prints the instruction set that STRATA_ISA really gives
add_executable(isa_probe ${CMAKE_SOURCE_DIR}/tests/support/isa_probe.c)
target_link_libraries(isa_probe PRIVATE strata_static strata_flags)

file(GLOB_RECURSE test_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*_test.c ${CMAKE_SOURCE_DIR}/tests/*_test.c)
list(FILTER test_sources EXCLUDE REGEX "/tests/component/") # templates: tests/tools/component.sh
file(GLOB cli_test_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cli/*_test.c)
set(programs "")
foreach(f ${test_sources} ${cli_test_sources})
  get_filename_component(name ${f} NAME_WE)
  add_executable(${name} ${f})
  target_link_libraries(${name} PRIVATE test_support)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  # Several programs share the cores: waiting threads must not spin
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 ENVIRONMENT "OMP_WAIT_POLICY=passive")
  string(APPEND programs "$<TARGET_FILE:${name}>\n")
endforeach()
# cli/NAME_test.c tests the one file cli/NAME.c of the program
foreach(f ${cli_test_sources})
  string(REPLACE "_test.c" ".c" file ${f})
  get_filename_component(name ${f} NAME_WE)
  target_sources(${name} PRIVATE ${file})
endforeach()
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/tests.list CONTENT "${programs}")

# Benchmarks: one program per NAME_bench.c beside its component, built when asked for (ninja NAME_bench).
file(GLOB_RECURSE bench_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*_bench.c)
foreach(f ${bench_sources})
  get_filename_component(name ${f} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${f})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests ${gen})
  target_link_libraries(${name} PRIVATE strata_static strata_flags)
endforeach()
