//! Darkroom's gRPC contract: the generated types of `darkroom/v1/*.proto`, a checked view of its tensors, and the metadata of traces.

pub mod tensor;
pub mod trace_context;

/// The generated messages, clients and servers of package `darkroom.v1`. The `.proto` files hold their documentation.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("darkroom.v1");
}

/// The whole contract as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/darkroom.v1.bin"));
