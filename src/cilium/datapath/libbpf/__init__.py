"""The kernel's eBPF interface: libbpf for object files, bpf(2) itself for everything on descriptors.

Nothing here knows what the programs do. Modules: `library` (the binding), `syscall` (bpf(2) commands), `objects`
(ELF objects before and after loading), `btf` (type information).
"""
