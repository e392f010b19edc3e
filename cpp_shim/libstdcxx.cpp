// Functions of newer versions of libstdc++ that code from their headers calls. They are defined
// here because the libstdc++ of older hosts has none. Their names are mangled: the headers
// declare them as symbols of another library.

#include <new>
#include <string>

#define OVERLAY_INSTEAD_OF(symbol) \
  __asm__(symbol) __attribute__((noreturn, visibility("hidden")))

extern "C" {

// std::__throw_bad_array_new_length(), since GLIBCXX_3.4.29: called by containers that would
// need more than the address space.
void overlayThrowBadAlloc() OVERLAY_INSTEAD_OF("_ZSt28__throw_bad_array_new_lengthv");

// std::__throw_out_of_range_fmt(), since GLIBCXX_3.4.20: called by functions of std::string. The
// format and what follows it describe the call, for developers.
void overlayThrowOutOfRange(const char* format, ...)
  OVERLAY_INSTEAD_OF("_ZSt24__throw_out_of_range_fmtPKcz");

void overlayThrowBadAlloc()
{
  throw std::bad_alloc();
}

void overlayThrowOutOfRange(const char* format, ...)
{
  std::__throw_out_of_range(format);
}

} // extern "C" {
