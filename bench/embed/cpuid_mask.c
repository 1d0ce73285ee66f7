/* Hides AVX-512, AVX-VNNI and AMX from a program, so that it runs as on an AVX2 machine.
 *
 * Some engines have no switch for it. Loaded with LD_PRELOAD, this asks Linux to trap the `cpuid`
 * instruction (CPUs and guests with the flag `cpuid_fault`), answers each trap with the real values
 * less the bits below, and so reaches every library of the process, whatever it calls.
 * Build: cc -O2 -shared -fPIC -o cpuid_mask.so cpuid_mask.c
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID_ALLOW 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7, subleaf 0: AVX-512 F DQ IFMA PF ER CD BW VL. */
#define LEAF7_EBX (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
/* VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ. */
#define LEAF7_ECX (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
/* 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8. */
#define LEAF7_EDX (BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25))
/* Leaf 7, subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA. */
#define LEAF7_1_EAX (BIT(4) | BIT(5) | BIT(21) | BIT(23))
/* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10. */
#define LEAF7_1_EDX (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19))

/* glibc's wrapper returns through TLS errno, which a handler may not touch; the bare call may. */
static long allow_cpuid(unsigned long allow) {
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_arch_prctl), "D"(ARCH_CPUID_ALLOW), "S"(allow)
                     : "rcx", "r11", "memory");
    return result;
}

static void on_trap(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    (void)info;
    if (signal_number != SIGSEGV || code[0] != 0x0f || code[1] != 0xa2) {
        /* A real fault: let it happen again without this handler. */
        signal(SIGSEGV, SIG_DFL);
        return;
    }
    unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX];
    unsigned eax, ebx, ecx, edx;
    allow_cpuid(1);
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    allow_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        ebx &= ~LEAF7_EBX;
        ecx &= ~LEAF7_ECX;
        edx &= ~LEAF7_EDX;
    } else if (leaf == 7 && subleaf == 1) {
        eax &= ~LEAF7_1_EAX;
        edx &= ~LEAF7_1_EDX;
    }
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void mask(void) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, &action, NULL) != 0 || allow_cpuid(0) != 0) {
        fputs("cpuid_mask: this system cannot trap cpuid\n", stderr);
        exit(1);
    }
}
