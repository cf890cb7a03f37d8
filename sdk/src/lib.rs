//! What plugin authors build on
