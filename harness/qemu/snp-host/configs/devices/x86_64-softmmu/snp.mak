# The devices of an emulated SNP host, and no others
CONFIG_Q35=y
CONFIG_AMD_IOMMU=y
CONFIG_ISA_DEBUG=y
CONFIG_HPET=y
CONFIG_AMD_PSP=y
# Does DMA where a test wants it
CONFIG_EDU=y
