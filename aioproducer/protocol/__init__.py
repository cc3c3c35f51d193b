"""Kafka's protocol as bytes: frames, versions and one file per Kafka API. No I/O.

`frames.encode_request` encodes a request, `frames.FrameDecoder` cuts received bytes into frames,
`frames.decode_response` decodes a frame.
"""
