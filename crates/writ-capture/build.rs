//! Compiles the kernel programs and generates their skeleton.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Debian keeps the headers of the kernel's interface that depend on the machine in a folder of their own.
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH")?;
    let machine = format!("-I/usr/include/{machine}-linux-gnu");
    for name in ["writ", "probe"] {
        let mut builder = libbpf_cargo::SkeletonBuilder::new();
        builder.source(format!("src/bpf/{name}.bpf.c")).clang_args([
            "-Isrc/bpf",
            machine.as_str(),
            "-mcpu=v3",
            "-Wall",
            "-Wno-compare-distinct-pointer-types",
        ]);
        if let Some(clang) = std::env::var_os("WRIT_CLANG") {
            builder.clang(clang);
        }
        builder.build_and_generate(out.join(format!("{name}.skel.rs")))?;
    }
    println!("cargo:rerun-if-changed=src/bpf");
    println!("cargo:rerun-if-env-changed=WRIT_CLANG");
    Ok(())
}
