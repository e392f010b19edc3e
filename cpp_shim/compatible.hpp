// Checks whether the shim works in the Mesos that loaded it.
#ifndef OVERLAY_COMPATIBLE_HPP
#define OVERLAY_COMPATIBLE_HPP

namespace overlay {

// Returns whether this Mesos has the symbols and the layout of messages that the shim was
// compiled for. Logs a difference at ERROR. Mesos calls this before it creates a module.
bool compatible();

// Returns whether libprocess's ProcessBase has the layout that the shim was compiled for.
// Logs a difference at ERROR. Needs a running libprocess.
bool processLayoutMatches();

} // namespace overlay {

#endif // OVERLAY_COMPATIBLE_HPP
