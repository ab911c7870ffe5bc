//! Tests of the devices.
