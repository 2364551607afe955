# SPDX-License-Identifier: MIT
# What the library is built on.  RINGX_HAVE_* say what was found.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson) # the command's

add_library(ringx_dependencies INTERFACE)
target_link_libraries(ringx_dependencies INTERFACE Threads::Threads OpenMP::OpenMP_C PkgConfig::YAML m)
target_compile_definitions(ringx_dependencies INTERFACE _GNU_SOURCE)

set(RINGX_HAVE_MPI OFF)
if(RINGX_MPI)
  # Two MPIs side by side: mpicc.mpich goes with mpiexec.mpich. The other's launcher would start N programs of one rank.
  if(MPI_C_COMPILER MATCHES "mpicc\\.([a-z]+)$")
    find_program(MPIEXEC_EXECUTABLE mpiexec.${CMAKE_MATCH_1} DOC "starts MPI programs")
  endif()
  find_package(MPI COMPONENTS C)
  if(MPI_C_FOUND)
    set(RINGX_HAVE_MPI ON)
    target_link_libraries(ringx_dependencies INTERFACE MPI::MPI_C)
    target_compile_definitions(ringx_dependencies INTERFACE RINGX_HAVE_MPI OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  endif()
endif()

# nvcc alone compiles the kernels (that is all that can be checked without a GPU); they become table rows where the
# device layer is there as well.
set(RINGX_HAVE_CUDA OFF)
set(RINGX_HAVE_NCCL OFF)
if(RINGX_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(RINGX_CUDA AND CMAKE_CUDA_COMPILER)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real)
  endif()
  enable_language(CUDA)
  # The module of CMake 3.25 says of a library that CUDA 13 has no longer that it is deprecated, and fails; to projects
  # that are older it says nothing.
  set(minimum ${CMAKE_MINIMUM_REQUIRED_VERSION})
  set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
  find_package(CUDAToolkit)
  set(CMAKE_MINIMUM_REQUIRED_VERSION ${minimum})
  if(CUDAToolkit_FOUND AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/src/device/cuda.c)
    set(RINGX_HAVE_CUDA ON)
    target_link_libraries(ringx_dependencies INTERFACE CUDA::cudart_static)
    target_compile_definitions(ringx_dependencies INTERFACE RINGX_HAVE_CUDA)
    find_path(NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(NCCL_INCLUDE AND NCCL_LIBRARY AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/src/comm/nccl.c)
      set(RINGX_HAVE_NCCL ON)
      target_include_directories(ringx_dependencies SYSTEM INTERFACE ${NCCL_INCLUDE})
      target_link_libraries(ringx_dependencies INTERFACE ${NCCL_LIBRARY})
      target_compile_definitions(ringx_dependencies INTERFACE RINGX_HAVE_NCCL)
    endif()
  endif()
endif()

set(RINGX_HAVE_APPS OFF)
set(RINGX_HAVE_VIT OFF)
if(RINGX_APPS)
  pkg_check_modules(OPENBLAS IMPORTED_TARGET openblas) # matrix products of the training programs
  pkg_check_modules(PCRE2 IMPORTED_TARGET libpcre2-8) # patterns of tokenizers
  pkg_check_modules(UTF8PROC IMPORTED_TARGET libutf8proc) # normal forms for tokenizers
  pkg_check_modules(ZSTD IMPORTED_TARGET libzstd) # texts that are compressed
  if(OPENBLAS_FOUND AND PCRE2_FOUND AND UTF8PROC_FOUND AND ZSTD_FOUND)
    set(RINGX_HAVE_APPS ON)
  endif()
  # ringx-vit beside these: fields are HDF5, what is imported and exported netCDF, pictures PNG
  pkg_check_modules(HDF5 IMPORTED_TARGET hdf5)
  pkg_check_modules(NETCDF IMPORTED_TARGET netcdf)
  pkg_check_modules(PNG IMPORTED_TARGET libpng)
  if(RINGX_HAVE_APPS AND HDF5_FOUND AND NETCDF_FOUND AND PNG_FOUND)
    set(RINGX_HAVE_VIT ON)
  endif()
endif()
