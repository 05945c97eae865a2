//! The cloud half: AWS's interfaces on an emulator, Lightsail in this process, and a lab without machines.

mod support {
    pub(crate) mod emulator;
    pub(crate) mod front;
}

mod aws;
mod lab;
mod least;
mod lightsail;
