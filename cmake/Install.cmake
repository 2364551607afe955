# SPDX-License-Identifier: MIT
# cmake --install: public headers, library, command, pkg-config file, CMake package, man page, machine descriptions,
# modulefile.  The installed tree may be moved.
include(CMakePackageConfigHelpers)

set(RINGX_HEADERS include/ringx/ringx.h include/ringx/ringx_study.h)
if(RINGX_HAVE_MPI)
  list(APPEND RINGX_HEADERS include/ringx/ringx_mpi.h)
endif()
if(RINGX_HAVE_NCCL)
  list(APPEND RINGX_HEADERS include/ringx/ringx_nccl.h)
endif()
install(FILES ${RINGX_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ringx)
install(TARGETS ringx EXPORT ringxTargets)
install(TARGETS ringx_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET ringx_gpt)
  install(TARGETS ringx_gpt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET ringx_vit)
  install(TARGETS ringx_vit RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES apps/vit/configs/ViT.yaml DESTINATION ${CMAKE_INSTALL_DATADIR}/ringx/vit)
endif()
install(DIRECTORY machines/ DESTINATION ${CMAKE_INSTALL_DATADIR}/ringx/machines)
file(GLOB RINGX_MAN CONFIGURE_DEPENDS docs/man/*.1)
install(FILES ${RINGX_MAN} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES packaging/modulefile/ringx DESTINATION ${CMAKE_INSTALL_DATADIR}/ringx/modulefiles)

install(EXPORT ringxTargets NAMESPACE ringx:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ringx)
configure_package_config_file(cmake/ringxConfig.cmake.in ringxConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ringx)
write_basic_package_version_file(ringxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ringxConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/ringxConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ringx)

file(RELATIVE_PATH RINGX_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/ringx.pc.in ringx.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ringx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
