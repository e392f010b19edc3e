// Whether this Mesos is one that the shim can live in.
#ifndef OVERLAY_COMPATIBLE_HPP
#define OVERLAY_COMPATIBLE_HPP

namespace overlay {

// Mesos asks before it uses the modules. What is missing or different is logged at
// ERROR; nothing is used before it was looked at.
bool compatible();

// Whether a process of this Mesos fits into the room that the shim leaves for it.
// Needs libprocess, so that it is asked when a module is made.
bool fits();

} // namespace overlay {

#endif // OVERLAY_COMPATIBLE_HPP
