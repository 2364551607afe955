# SPDX-License-Identifier: MIT
# machines/*.yaml as C strings in the library: a new description is one file.
file(GLOB RINGX_MACHINES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/machines/*.yaml)
set(RINGX_MACHINE_ROWS "")
foreach(file IN LISTS RINGX_MACHINES)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
  string(APPEND RINGX_MACHINE_ROWS "    {\"${name}\",\n     \"${text}\"},\n")
endforeach()
set(RINGX_MACHINE_SOURCE ${CMAKE_CURRENT_BINARY_DIR}/machine_texts.c)
file(CONFIGURE OUTPUT ${RINGX_MACHINE_SOURCE} @ONLY CONTENT
"/* Generated from the files in machines. */
#include \"schedule/machine.h\"

const ringx_machine_text ringx__machine_texts[] = {
@RINGX_MACHINE_ROWS@    {NULL, NULL},
};
")
