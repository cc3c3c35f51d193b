import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Measures transactions of Kafka's own producer: takes a job as JSON (benchmarks/jobs.py), prints a
 * measurement as JSON. Kafka's jars have all it needs, so the JVM runs this file as it is.
 */
public final class Transactions {
    private static final int WARM_UP = 2_000;

    private final KafkaProducer<byte[], byte[]> producer;
    private final String topic;
    private final byte[] value;

    private Transactions(KafkaProducer<byte[], byte[]> producer, String topic, byte[] value) {
        this.producer = producer;
        this.topic = topic;
        this.value = value;
    }

    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        JsonNode job = json.readTree(arguments[0]);
        String topic = job.get("topic").asText();
        int size = job.get("block").asInt();
        double seconds = job.get("seconds").asDouble();
        byte[] value = new byte[job.get("payload").get("value_bytes").asInt()];
        for (int i = 0; i < value.length; i++) {
            value[i] = (byte) (i * 7 + i / 256);
        }
        Properties properties = new Properties();
        properties.put("bootstrap.servers", job.get("bootstrap_servers").asText());
        properties.put("transactional.id", topic);
        // Larger than the default of 16 KiB, as in java.py. Commit waits for no linger.
        properties.put("batch.size", "131072");
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(
                        properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            Transactions transactions = new Transactions(producer, topic, value);
            transactions.commit(WARM_UP);
            // The share of benchmarks/drivers.py.
            long warmUp = WARM_UP + (long) transactions.run(size, seconds / 2).size() * size;

            long idleMemory = memory("VmRSS:");
            long cpu = cpuNanoseconds();
            long started = System.nanoTime();
            List<Long> took = transactions.run(size, seconds);
            double measured = (System.nanoTime() - started) / 1e9;
            double cpuSeconds = (cpuNanoseconds() - cpu) / 1e9;
            long records = (long) took.size() * size;
            Map<String, Object> answer = new LinkedHashMap<>();
            answer.put("records", records);
            answer.put("stored_records", records + warmUp);
            answer.put("seconds", measured);
            answer.put("cpu_seconds", cpuSeconds);
            answer.put("peak_memory_bytes", memory("VmHWM:"));
            answer.put("idle_memory_bytes", idleMemory);
            answer.put("latency_ms", percentiles(took));
            answer.put("version", AppInfoParser.getVersion());
            answer.put("blocks", took.size());
            System.out.println(json.writeValueAsString(answer));
        }
    }

    /** Commits one transaction after the other; returns the nanoseconds of each. */
    private List<Long> run(int size, double seconds) {
        List<Long> took = new ArrayList<>();
        long before = System.nanoTime();
        long until = before + (long) (seconds * 1e9);
        while (before < until) {
            commit(size);
            long now = System.nanoTime();
            took.add(now - before);
            before = now;
        }
        return took;
    }

    /** Commit waits for every record, and throws if one failed; so there is no callback. */
    private void commit(int size) {
        producer.beginTransaction();
        for (int i = 0; i < size; i++) {
            producer.send(new ProducerRecord<>(topic, value));
        }
        producer.commitTransaction();
    }

    private static Map<String, Double> percentiles(List<Long> nanoseconds) {
        List<Long> sorted = nanoseconds.stream().sorted().toList();
        int last = sorted.size() - 1;
        Map<String, Double> found = new LinkedHashMap<>();
        Map.of("p50", 0.5, "p99", 0.99, "p999", 0.999)
                .forEach(
                        (name, share) -> {
                            int place = Math.min(last, (int) (sorted.size() * share));
                            found.put(name, sorted.get(place) / 1e6);
                        });
        found.put("max", sorted.get(last) / 1e6);
        found.put("mean", sorted.stream().mapToLong(Long::longValue).average().orElse(0) / 1e6);
        return found;
    }

    private static long cpuNanoseconds() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
                .getProcessCpuTime();
    }

    /** A figure of /proc/self/status in bytes; 0 where there is none. */
    private static long memory(String field) throws Exception {
        Path status = Path.of("/proc/self/status");
        if (!Files.exists(status)) {
            return 0;
        }
        for (String line : Files.readAllLines(status)) {
            if (line.startsWith(field)) {
                return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
            }
        }
        return 0;
    }
}
