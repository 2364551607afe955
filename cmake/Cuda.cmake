# SPDX-License-Identifier: MIT
# The CUDA kernels, for the architectures they are written for: *_sm90* for sm_90a alone, the others for sm_80 too.
file(GLOB RINGX_CUDA_SOURCES CONFIGURE_DEPENDS src/kernel/*.cu)
if(NOT CMAKE_CUDA_COMPILER OR NOT RINGX_CUDA_SOURCES)
  return()
endif()
set(RINGX_SM90_SOURCES ${RINGX_CUDA_SOURCES})
list(FILTER RINGX_SM90_SOURCES INCLUDE REGEX "/[^/]*_sm90[^/]*\\.cu$")
list(FILTER RINGX_CUDA_SOURCES EXCLUDE REGEX "/[^/]*_sm90[^/]*\\.cu$")

add_library(ringx_cuda OBJECT ${RINGX_CUDA_SOURCES})
add_library(ringx_cuda_sm90 OBJECT ${RINGX_SM90_SOURCES})
set_target_properties(ringx_cuda_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
foreach(target ringx_cuda ringx_cuda_sm90)
  target_include_directories(${target} PRIVATE include src)
  target_link_libraries(${target} PRIVATE ringx_dependencies)
  target_compile_options(${target} PRIVATE -lineinfo)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_STANDARD 17
                                             CUDA_VISIBILITY_PRESET hidden)
  if(RINGX_HAVE_CUDA)
    target_link_libraries(ringx PRIVATE ${target})
    target_link_libraries(ringx_internal PRIVATE ${target})
  endif()
endforeach()
