//! Generates the protobuf code. (protox stands in for `protoc`, so that no
//! protobuf compiler has to be installed.)

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protos = ["proto/overlay.proto", "proto/internal.proto", "proto/mesos.proto"];
    let descriptors = protox::compile(protos, ["proto"])?;
    prost_build::Config::new().bytes(["."]).enable_type_names().compile_fds(descriptors)?;
    Ok(())
}
