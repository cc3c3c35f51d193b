"""What a producer says to a broker, as bytes: frames, versions and one file per Kafka API.

No I/O. Callers encode with `frames.encode_request`, cut what comes back with
`frames.FrameDecoder` and read it with `frames.decode_response`.
"""
