//! Patchbay plugin: http
