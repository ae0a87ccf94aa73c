//! The wasm engines, from outside: each failure that a user can meet, the cache, and the guests of this repository.

mod cache;
mod check;
mod command;
mod fan;
mod files;
mod setup;
mod wordcount;
