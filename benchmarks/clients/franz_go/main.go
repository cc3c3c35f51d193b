// Measures franz-go: takes a job as JSON (benchmarks/jobs.py), prints a measurement as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	warmUp     = 2_000
	bulkSize   = 1_000
	spreadKeys = 50_000
)

type payload struct {
	ValueBytes int    `json:"value_bytes"`
	IsCard     bool   `json:"is_card"`
	Codec      string `json:"codec"`
}

type job struct {
	BootstrapServers string  `json:"bootstrap_servers"`
	Topic            string  `json:"topic"`
	Pattern          string  `json:"pattern"`
	Payload          payload `json:"payload"`
	Seconds          float64 `json:"seconds"`
	Tasks            int     `json:"tasks"`
	Block            int     `json:"block"`
}

type measurement struct {
	Records         int64              `json:"records"`
	StoredRecords   int64              `json:"stored_records"`
	Seconds         float64            `json:"seconds"`
	CPUSeconds      float64            `json:"cpu_seconds"`
	PeakMemoryBytes int64              `json:"peak_memory_bytes"`
	IdleMemoryBytes int64              `json:"idle_memory_bytes"`
	LatencyMs       map[string]float64 `json:"latency_ms"`
	Failures        int64              `json:"failures"`
	Version         string             `json:"version"`
	Blocks          int64              `json:"blocks"`
}

func main() {
	var todo job
	if err := json.Unmarshal([]byte(os.Args[1]), &todo); err != nil {
		fail(err)
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(todo.BootstrapServers, ",")...),
		kgo.DefaultProduceTopic(todo.Topic),
		kgo.ProducerBatchCompression(codec(todo.Payload.Codec)),
		// As many as the others may hold; the default of 10,000 is a third slower.
		kgo.MaxBufferedRecords(250_000),
		kgo.ProducerLinger(linger(todo.Pattern)),
	}
	if todo.Pattern == "transactions" {
		options = append(options, kgo.TransactionalID(todo.Topic))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	value := make([]byte, todo.Payload.ValueBytes)
	for i := range value {
		value[i] = byte(i*7 + i/256)
	}
	keys := [][]byte{nil}
	if todo.Pattern == "spread" {
		keys = randomKeys()
	}
	warmedUp := int64(warmUp)
	if todo.Pattern == "transactions" {
		transaction(client, value, warmUp)
		// The share of benchmarks/drivers.py.
		_, more := transactions(client, value, todo.Block, time.Now().Add(seconds(todo.Seconds/2)))
		warmedUp += more
	} else {
		warmUpBy(client, keys, value)
	}

	idle := memory("VmRSS:")
	started, cpu := time.Now(), cpuSeconds()
	until := started.Add(seconds(todo.Seconds))
	var records, blocks int64
	var latencies []time.Duration
	switch todo.Pattern {
	case "take_turns", "one_at_a_time":
		records, latencies = takeTurns(client, value, todo.Tasks, until)
	case "bulk":
		records = bulk(client, value, todo.Tasks, until)
	case "transactions":
		latencies, records = transactions(client, value, todo.Block, until)
		blocks = int64(len(latencies))
	default:
		records = produce(client, keys, value, until)
	}
	took := time.Since(started).Seconds()
	answer, err := json.Marshal(measurement{
		Records:         records,
		StoredRecords:   records + warmedUp,
		Seconds:         took,
		CPUSeconds:      cpuSeconds() - cpu,
		PeakMemoryBytes: memory("VmHWM:"),
		IdleMemoryBytes: idle,
		LatencyMs:       percentiles(latencies),
		Version:         version(),
		Blocks:          blocks,
	})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(answer))
}

// warmUpBy sends records before the clock starts.
func warmUpBy(client *kgo.Client, keys [][]byte, value []byte) {
	for i := range warmUp {
		record := &kgo.Record{Key: keys[i%len(keys)], Value: value}
		client.Produce(context.Background(), record, failIfNotStored)
	}
	if err := client.Flush(context.Background()); err != nil {
		fail(err)
	}
}

func failIfNotStored(_ *kgo.Record, err error) {
	if err != nil {
		fail(err)
	}
}

// transactions commits one transaction after the other; it returns the time of each, and how many
// records they had.
func transactions(client *kgo.Client, value []byte, size int, until time.Time) ([]time.Duration, int64) {
	var latencies []time.Duration
	for before := time.Now(); before.Before(until); {
		transaction(client, value, size)
		now := time.Now()
		latencies = append(latencies, now.Sub(before))
		before = now
	}
	return latencies, int64(len(latencies) * size)
}

func transaction(client *kgo.Client, value []byte, size int) {
	if err := client.BeginTransaction(); err != nil {
		fail(err)
	}
	for range size {
		client.Produce(context.Background(), &kgo.Record{Value: value}, failIfNotStored)
	}
	if err := client.Flush(context.Background()); err != nil {
		fail(err)
	}
	if err := client.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		fail(err)
	}
}

// randomKeys returns the keys of benchmarks/jobs.py. The client's default partitioner hashes them
// as Kafka does, by murmur2.
func randomKeys() [][]byte {
	keys := make([][]byte, spreadKeys)
	state := uint64(1)
	for i := range keys {
		state = state*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407
		keys[i] = fmt.Appendf(nil, "%08x", state>>32)
	}
	return keys
}

// produce hands records over in a loop, each with the next key, and waits at the end until all are
// acknowledged.
func produce(client *kgo.Client, keys [][]byte, value []byte, until time.Time) int64 {
	var acknowledged atomic.Int64
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			fail(err)
		}
		acknowledged.Add(1)
	}
	next := 0
	for time.Now().Before(until) {
		for range 1_000 {
			client.Produce(context.Background(), &kgo.Record{Key: keys[next], Value: value}, promise)
			if next++; next == len(keys) {
				next = 0
			}
		}
	}
	if err := client.Flush(context.Background()); err != nil {
		fail(err)
	}
	return acknowledged.Load()
}

// bulk runs goroutines that each wait for a list of records before the next list.
func bulk(client *kgo.Client, value []byte, tasks int, until time.Time) int64 {
	var group sync.WaitGroup
	var acknowledged atomic.Int64
	for range tasks {
		group.Go(func() {
			for time.Now().Before(until) {
				// The client writes into its records, so a list serves once.
				records := make([]*kgo.Record, bulkSize)
				for i := range records {
					records[i] = &kgo.Record{Value: value}
				}
				if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
					fail(err)
				}
				acknowledged.Add(bulkSize)
			}
		})
	}
	group.Wait()
	return acknowledged.Load()
}

// takeTurns runs goroutines that wait for each record before the next; one in ten takes the time.
func takeTurns(client *kgo.Client, value []byte, tasks int, until time.Time) (int64, []time.Duration) {
	var group sync.WaitGroup
	var mutex sync.Mutex
	var all []time.Duration
	var records int64
	for task := range tasks {
		group.Go(func() {
			var own []time.Duration
			var count int64
			for before := time.Now(); before.Before(until); {
				record := &kgo.Record{Value: value}
				if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
					fail(err)
				}
				now := time.Now()
				count++
				if task%10 == 0 {
					own = append(own, now.Sub(before))
				}
				before = now
			}
			mutex.Lock()
			defer mutex.Unlock()
			records += count
			all = append(all, own...)
		})
	}
	group.Wait()
	return records, all
}

// A caller that waits for its record, or its list, gains nothing from a linger; a loop that does not
// wait, does.
func linger(pattern string) time.Duration {
	if pattern == "take_turns" || pattern == "one_at_a_time" || pattern == "bulk" {
		return 0
	}
	return 5 * time.Millisecond
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

func percentiles(latencies []time.Duration) map[string]float64 {
	found := map[string]float64{}
	if len(latencies) == 0 {
		return found
	}
	slices.Sort(latencies)
	milliseconds := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	at := func(share float64) float64 {
		return milliseconds(latencies[min(len(latencies)-1, int(float64(len(latencies))*share))])
	}
	found["p50"], found["p99"], found["p999"] = at(0.5), at(0.99), at(0.999)
	found["max"] = milliseconds(latencies[len(latencies)-1])
	var sum time.Duration
	for _, one := range latencies {
		sum += one
	}
	found["mean"] = milliseconds(sum / time.Duration(len(latencies)))
	return found
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// memory returns a figure of /proc/self/status in bytes; 0 where there is none.
func memory(field string) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == field {
			kib, _ := strconv.ParseInt(words[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				return module.Version
			}
		}
	}
	return ""
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
