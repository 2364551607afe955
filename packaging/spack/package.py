# SPDX-License-Identifier: MIT
# Spack recipe.  Put this directory into a repository of your own:
#   spack repo create ~/my-repo && mkdir -p ~/my-repo/packages/ringx && cp package.py ~/my-repo/packages/ringx
#   spack repo add ~/my-repo && spack dev-build ringx@main      (in a checkout of ringx)
from spack.package import *


class Ringx(CMakePackage, CudaPackage):
    """Exact attention, forward and backward, over sequences that are split over many ranks:
    all-gather, broadcast, ring and all-to-all schedules as data, on CPUs and GPUs, in C."""

    license("MIT")

    version("main", branch="main")

    variant("mpi", default=True, description="Ranks that are MPI processes")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("cmake@3.25:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("cmocka", type="test")
    depends_on("mpi", when="+mpi")
    depends_on("nccl", when="+cuda")

    conflicts("cuda_arch=none", when="+cuda", msg="name the GPU: cuda_arch=80, cuda_arch=90 …")

    generator("ninja")

    def cmake_args(self):
        return [
            self.define_from_variant("RINGX_MPI", "mpi"),
            self.define_from_variant("RINGX_CUDA", "cuda"),
            self.define("RINGX_TESTS", self.run_tests),
            self.define("RINGX_EXAMPLES", self.run_tests),
        ]
