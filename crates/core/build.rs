//! Generates the protobuf code, and the tables of the fields that hold messages or lists.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

/// Compiles the `.proto` files with protox, so that no `protoc` has to be installed.
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protos = [
        "proto/overlay.proto",
        "proto/internal.proto",
        "proto/mesos.proto",
    ];
    let descriptors = protox::compile(protos, ["proto"])?;
    let mut shapes = String::new();
    let mut names = String::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            let name = format!(".{}.{}", file.package(), message.name());
            write_shapes(&name, message, &mut shapes, &mut names)?;
        }
    }
    let shapes = format!(
        "{shapes}/// Shapes by the full name of the message.\n\
         static SHAPES: &[(&str, &Shape)] = &[\n{names}];\n"
    );
    std::fs::write(
        Path::new(&std::env::var("OUT_DIR")?).join("shapes.rs"),
        shapes,
    )?;
    prost_build::Config::new()
        .bytes(["."])
        .enable_type_names()
        .compile_fds(descriptors)?;
    Ok(())
}

/// Writes the shapes of the message `name` and of the messages that are declared inside of it
/// (see `src/protocol/wire_limits.rs`), and their entries in the table of names.
fn write_shapes(
    name: &str,
    message: &prost_types::DescriptorProto,
    shapes: &mut String,
    names: &mut String,
) -> Result<(), Box<dyn Error>> {
    use prost_types::field_descriptor_proto::{Label, Type};

    let of = |name: &str| {
        name.trim_start_matches('.')
            .replace('.', "_")
            .to_uppercase()
    };
    let mut fields = String::new();
    for field in &message.field {
        let is_list = field.label() == Label::Repeated;
        let shape = (field.r#type() == Type::Message).then(|| of(field.type_name()));
        if let Some(shape) = shape
            .map(|shape| format!("Some(&{shape})"))
            .or(is_list.then(|| "None".to_owned()))
        {
            let number = field.number();
            write!(
                fields,
                "Field {{ number: {number}, is_list: {is_list}, message: {shape} }}, "
            )?;
        }
    }
    writeln!(shapes, "static {}: Shape = Shape(&[{fields}]);", of(name))?;
    writeln!(
        names,
        "(\"{}\", &{}),",
        name.trim_start_matches('.'),
        of(name)
    )?;
    for nested in &message.nested_type {
        write_shapes(&format!("{name}.{}", nested.name()), nested, shapes, names)?;
    }
    Ok(())
}
