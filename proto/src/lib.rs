//! Darkroom's gRPC contract: the generated types of `darkroom/v1/*.proto` and a checked view of its tensors.

pub mod tensor;

/// The generated messages, clients and servers of package `darkroom.v1`. The `.proto` files hold their documentation.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("darkroom.v1");
}

/// The whole contract as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/darkroom.v1.bin"));
