# libmoerun, as one library from the objects of the five modules, and its
# installation. Of a shared one only the public moerun_* names are visible: the
# modules are compiled with hidden visibility.
include(CMakePackageConfigHelpers)

add_library(moerun
  $<TARGET_OBJECTS:moerun_base> $<TARGET_OBJECTS:moerun_placement>
  $<TARGET_OBJECTS:moerun_comm> $<TARGET_OBJECTS:moerun_kernels>
  $<TARGET_OBJECTS:moerun_runtime>)
add_library(moerun::moerun ALIAS moerun)
set_target_properties(moerun PROPERTIES
  LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(moerun PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/runtime/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(moerun
  PUBLIC MPI::MPI_C
  PRIVATE PkgConfig::JANSSON PkgConfig::XXHASH PkgConfig::PCRE2 PkgConfig::UTF8PROC m $<BUILD_INTERFACE:moerun_warnings>)
if(GLPK_FOUND)
  target_link_libraries(moerun PRIVATE GLPK::GLPK)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/moerun)
install(TARGETS moerun EXPORT moerun-targets COMPONENT library)
install(DIRECTORY runtime/include/moerun TYPE INCLUDE COMPONENT library
  FILES_MATCHING PATTERN "*.h")
install(EXPORT moerun-targets NAMESPACE moerun:: DESTINATION ${package_dir}
  COMPONENT library)
configure_package_config_file(runtime/cmake/moerun-config.cmake.in
  ${PROJECT_BINARY_DIR}/moerun-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moerun-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/moerun-config.cmake
  ${PROJECT_BINARY_DIR}/moerun-config-version.cmake
  runtime/cmake/moerun_library.cmake
  DESTINATION ${package_dir} COMPONENT library)
if(GLPK_FOUND AND NOT BUILD_SHARED_LIBS)
  install(FILES runtime/cmake/FindGLPK.cmake DESTINATION ${package_dir}
    COMPONENT library)
endif()

# pkg-config has no MPI of its own on most systems: what FindMPI found is
# written out. A static library leaves these libraries to the program, a shared one not.
set(moerun_pc_mpi_cflags "")
foreach(folder IN LISTS MPI_C_INCLUDE_DIRS)
  string(APPEND moerun_pc_mpi_cflags " -I${folder}")
endforeach()
list(JOIN MPI_C_LIBRARIES " " moerun_pc_libs)
if(BUILD_SHARED_LIBS)
  set(moerun_pc_requires "Requires.private")
else()
  set(moerun_pc_requires "Requires")
  if(GLPK_FOUND)
    string(APPEND moerun_pc_libs " ${GLPK_LIBRARY}")
  endif()
  string(APPEND moerun_pc_libs " -lm")
endif()
# Relative to where the file lies, so that the prefix may be chosen, or the
# installation moved, later.
file(RELATIVE_PATH moerun_pc_to_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" moerun_pc_to_prefix "${moerun_pc_to_prefix}")
configure_file(runtime/cmake/moerun.pc.in ${PROJECT_BINARY_DIR}/moerun.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/moerun.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)
