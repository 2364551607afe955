# SPDX-License-Identifier: MIT
# Warnings and sanitizers, on every C target of the project.
add_library(ringx_warnings INTERFACE)
target_compile_options(ringx_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wshadow -Wconversion -Werror
                                                -Wno-error=unknown-pragmas>)
if(RINGX_SANITIZE)
  target_compile_options(ringx_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=${RINGX_SANITIZE}
                                                  -fno-omit-frame-pointer -fno-sanitize-recover=all -g>)
  target_link_options(ringx_warnings INTERFACE -fsanitize=${RINGX_SANITIZE})
endif()
