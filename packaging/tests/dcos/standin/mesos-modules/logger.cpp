#include <cstdio>

extern "C" const char *module_name();

int main() { return std::puts(module_name()) < 0; }
