# SAM2RT_VERSION, which stands in configs/version.py of the repository alone.
get_filename_component(version_file "${CMAKE_CURRENT_LIST_DIR}/../../../configs/version.py" ABSOLUTE)
if(NOT EXISTS "${version_file}")
  message(FATAL_ERROR "expected the version in ${version_file}, found no such file: build runtime/cpp "
                      "inside a whole checkout of sam2rt")
endif()
file(STRINGS "${version_file}" version_lines REGEX "^VERSION = ")
if(NOT version_lines MATCHES "^VERSION = \"([0-9]+\\.[0-9]+\\.[0-9]+)\"$")
  message(FATAL_ERROR "expected one line VERSION = \"MAJOR.MINOR.PATCH\" in ${version_file}, found "
                      "'${version_lines}': write the three numbers there")
endif()
set(SAM2RT_VERSION ${CMAKE_MATCH_1})
# a build folder that is older than a new version is configured again
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${version_file}")
