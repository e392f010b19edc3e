// Functions of newer versions of libstdc++ that code from their headers calls. They are defined
// here because the libstdc++ of older hosts has none.

#include <new>

namespace std {

// Since GLIBCXX_3.4.29; called by containers of g++ 11 and later that would allocate more than
// the address space.
__attribute__((noreturn, visibility("hidden"))) void __throw_bad_array_new_length();

void __throw_bad_array_new_length()
{
  throw bad_alloc();
}

} // namespace std {
