extern "C" const char *module_name() { return NAME; }
