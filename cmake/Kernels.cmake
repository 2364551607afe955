# SPDX-License-Identifier: MIT
# Instruction sets by file name: *_avx2.c, *_avx512.c.  Which of them runs is decided at run time.
foreach(source IN LISTS RINGX_SOURCES)
  if(source MATCHES "_avx2\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-O3")
  elseif(source MATCHES "_avx512\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
                                "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c;-O3;-mprefer-vector-width=512")
  elseif(source MATCHES "_portable\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3")
  endif()
endforeach()
