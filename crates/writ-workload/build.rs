//! Compiles the protocol files, without a protoc.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

const FILES: [&str; 3] = [
    "workload.proto",
    "envoy/service/secret/v3/sds.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
];

// Keys and tokens lie in these; `proto.rs` gives them a `Debug` that says nothing.
const SECRET: [&str; 7] = [
    "X509SVID",
    "JWTSVID",
    "WITSVID",
    "ValidateJWTSVIDRequest",
    "ValidateJWTSVIDResponse",
    "envoy.config.core.v3.DataSource",
    "google.protobuf.Any",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(FILES, [&folder])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::File::create(out.join("proto.bin"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &descriptors.encode_to_vec()))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .compile_well_known_types(true)
        .skip_debug(SECRET)
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
