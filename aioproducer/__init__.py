"""The asyncio-native Kafka producer."""
