# The extensions of the wheel. Those of the engine find the one libwalle_engine.so beside them by $ORIGIN: linked
# statically into each, its pools and handle tables would exist twice.
find_package(Python 3.13 REQUIRED COMPONENTS Interpreter Development.Module)
if(CMAKE_CROSSCOMPILING)
  set(Python_SOABI ${SKBUILD_SOABI}) # of the Python that the wheel is for, not of the one that builds it
endif()

install(TARGETS walle_engine LIBRARY DESTINATION walle_engine)

# The cffi binding: the public header without the system's parts is its cdef, and its prelude is one #include.
set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
file(GLOB public_headers CONFIGURE_DEPENDS include/walle/*)
add_custom_command(
  OUTPUT ${generated}/engine.cdef.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${generated}
  COMMAND ${CMAKE_C_COMPILER} -E -P -DWE_CDEF -DWE_API= ${CMAKE_CURRENT_SOURCE_DIR}/include/walle/engine.h
          -o ${generated}/engine.cdef.h
  DEPENDS ${public_headers}
  VERBATIM)
add_custom_command(
  OUTPUT ${generated}/_cffi.c
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cmake/generate_cffi.py ${generated}/engine.cdef.h
          ${generated}/_cffi.c
  DEPENDS ${generated}/engine.cdef.h cmake/generate_cffi.py
  VERBATIM)
Python_add_library(walle_cffi MODULE WITH_SOABI ${generated}/_cffi.c)
set_target_properties(walle_cffi PROPERTIES OUTPUT_NAME _cffi INSTALL_RPATH "$ORIGIN" C_VISIBILITY_PRESET default)
target_link_libraries(walle_cffi PRIVATE walle_engine)
install(TARGETS walle_cffi LIBRARY DESTINATION walle_engine)

# The hand-written extension that isolated interpreters load.
file(GLOB native_sources CONFIGURE_DEPENDS python/native/*.c)
Python_add_library(walle_native MODULE WITH_SOABI ${native_sources})
set_target_properties(walle_native PROPERTIES OUTPUT_NAME _native INSTALL_RPATH "$ORIGIN")
target_compile_options(walle_native PRIVATE -Wall -Wextra -Werror)
target_link_libraries(walle_native PRIVATE walle_engine Threads::Threads)
install(TARGETS walle_native LIBRARY DESTINATION walle_engine)

# The container's extensions are built here because this is the one CMake project; they know nothing of the engine.
foreach(name vm fence)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/../agent/walle_container/_${name}.c)
  if(EXISTS ${source})
    Python_add_library(walle_${name} MODULE WITH_SOABI ${source})
    set_target_properties(walle_${name} PROPERTIES OUTPUT_NAME _${name})
    target_compile_options(walle_${name} PRIVATE -Wall -Wextra -Werror)
    install(TARGETS walle_${name} LIBRARY DESTINATION walle_container)
  endif()
endforeach()
