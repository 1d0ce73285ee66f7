//! Models by name, brought to this machine by any road.
