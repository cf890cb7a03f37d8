//! Patchbay plugin: mpegts
