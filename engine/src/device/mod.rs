//! The file underneath, as a device of blocks.
