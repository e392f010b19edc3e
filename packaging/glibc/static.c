/* Symbols that the shared library of glibc 2.17 does not have, and that the linker finds in later
 * releases: those of 2.17's static part, and later ones that compilers' headers and the module
 * need. They use what 2.17's library exports. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Version of the structures on x86-64. */
enum { STRUCTURES = 1, DEVICES = 0 };

extern int __xstat(int, const char *, struct stat *);
extern int __fxstat(int, int, struct stat *);
extern int __lxstat(int, const char *, struct stat *);
extern int __fxstatat(int, int, const char *, struct stat *, int);
extern int __xstat64(int, const char *, struct stat64 *);
extern int __fxstat64(int, int, struct stat64 *);
extern int __lxstat64(int, const char *, struct stat64 *);
extern int __fxstatat64(int, int, const char *, struct stat64 *, int);
extern int __xmknod(int, const char *, mode_t, dev_t *);
extern int __xmknodat(int, int, const char *, mode_t, dev_t *);
extern int __cxa_atexit(void (*)(void *), void *, void *);
extern int __cxa_at_quick_exit(void (*)(void *), void *);
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);

#define PRIVATE __attribute__((visibility("hidden")))
extern void *__dso_handle PRIVATE;

PRIVATE int stat(const char *path, struct stat *status)
{
  return __xstat(STRUCTURES, path, status);
}

PRIVATE int fstat(int file, struct stat *status)
{
  return __fxstat(STRUCTURES, file, status);
}

PRIVATE int lstat(const char *path, struct stat *status)
{
  return __lxstat(STRUCTURES, path, status);
}

PRIVATE int fstatat(int directory, const char *path, struct stat *status, int flags)
{
  return __fxstatat(STRUCTURES, directory, path, status, flags);
}

PRIVATE int stat64(const char *path, struct stat64 *status)
{
  return __xstat64(STRUCTURES, path, status);
}

PRIVATE int fstat64(int file, struct stat64 *status)
{
  return __fxstat64(STRUCTURES, file, status);
}

PRIVATE int lstat64(const char *path, struct stat64 *status)
{
  return __lxstat64(STRUCTURES, path, status);
}

PRIVATE int fstatat64(int directory, const char *path, struct stat64 *status, int flags)
{
  return __fxstatat64(STRUCTURES, directory, path, status, flags);
}

PRIVATE int mknod(const char *path, mode_t mode, dev_t device)
{
  return __xmknod(DEVICES, path, mode, &device);
}

PRIVATE int mknodat(int directory, const char *path, mode_t mode, dev_t device)
{
  return __xmknodat(DEVICES, directory, path, mode, &device);
}

PRIVATE int atexit(void (*function)(void))
{
  return __cxa_atexit((void (*)(void *))function, 0, &__dso_handle);
}

PRIVATE int at_quick_exit(void (*function)(void))
{
  return __cxa_at_quick_exit((void (*)(void *))function, &__dso_handle);
}

PRIVATE int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
  return __register_atfork(prepare, parent, child, &__dso_handle);
}

/* A kernel before 3.17 answers ENOSYS. */
PRIVATE int memfd_create(const char *name, unsigned flags)
{
  return (int)syscall(SYS_memfd_create, name, flags);
}

/* libstdc++ counts references without atomic operations while this is not 0; it always may use
 * them. */
PRIVATE char __libc_single_threaded = 0;
