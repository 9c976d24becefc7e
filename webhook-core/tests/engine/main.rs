//! The engine on the memory backends, in paused time: the tests are about the engine, so nothing else is real.

mod faults;
mod lanes;
mod lifecycle;
mod publishing;
mod support;
