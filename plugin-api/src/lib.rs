//! The stable ABI between the Patchbay host and its plugins
