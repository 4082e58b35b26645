# moerun_library(JANSSON jansson 2.12 jansson.h): JANSSON_FOUND and the target
# PkgConfig::JANSSON, from pkg-config where that knows the library, else from
# its header and file on CMAKE_PREFIX_PATH, CPATH and LIBRARY_PATH.
find_package(PkgConfig QUIET)

macro(moerun_library prefix name version header)
  if(PkgConfig_FOUND)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET "${name}>=${version}")
    pkg_check_modules(${prefix}_any QUIET ${name})
  endif()
  if(NOT ${prefix}_FOUND AND NOT ${prefix}_any_FOUND)
    find_path(${prefix}_FOLDER ${header} HINTS ENV CPATH)
    string(REGEX REPLACE "^lib" "" ${prefix}_NAME ${name})
    find_library(${prefix}_FILE ${${prefix}_NAME} HINTS ENV LIBRARY_PATH)
    mark_as_advanced(${prefix}_FOLDER ${prefix}_FILE)
    if(${prefix}_FOLDER AND ${prefix}_FILE)
      set(${prefix}_FOUND TRUE)
      add_library(PkgConfig::${prefix} UNKNOWN IMPORTED)
      set_target_properties(PkgConfig::${prefix} PROPERTIES
        IMPORTED_LOCATION ${${prefix}_FILE}
        INTERFACE_INCLUDE_DIRECTORIES ${${prefix}_FOLDER})
    endif()
  endif()
endmacro()

# The same for what there is no building without.
macro(moerun_required_library prefix name version header)
  moerun_library(${prefix} ${name} ${version} ${header})
  if(NOT ${prefix}_FOUND)
    message(FATAL_ERROR "${name}: expected version ${version} or later, found "
      "none: install it, or let CMAKE_PREFIX_PATH or PKG_CONFIG_PATH lead to it")
  endif()
endmacro()
