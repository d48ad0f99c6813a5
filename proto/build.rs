//! Compiles the .proto files with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["uplink", "enrolment", "admin", "log"].map(|f| format!("proto/extranet/v1/{f}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    // Messages that hold a secret get their `Debug` by hand, in src/secret.rs: a log line must not show one.
    let secret = ["SnmpCredential", "EnrolRequest", "NewTicketReply"];
    tonic_prost_build::configure()
        .skip_debug(secret.map(|message| format!("extranet.v1.{message}")))
        .compile_fds(descriptors)?;
    Ok(())
}
