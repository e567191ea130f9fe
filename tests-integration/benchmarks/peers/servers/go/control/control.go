// Package control answers the commands from standard input; see control.py for their meaning.
package control

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Server is one peer: it publishes, and counts its connections.
type Server interface {
	Connected() int
	Subscribed() int
	Publish(channel, data string)
}

// Message is what a server publishes to the subscribers of a channel.
type Message struct {
	Type      string    `json:"type"`
	Channel   string    `json:"channel"`
	Data      string    `json:"data"`
	Timestamp time.Time `json:"timestamp"`
}

// Encode returns the JSON of a message.
func Encode(channel, data string) []byte {
	encoded, err := json.Marshal(Message{"event", channel, data, time.Now()})
	if err != nil {
		log.Fatal(err)
	}
	return encoded
}

// Run serves HTTP on a free port, and answers commands until the end of standard input.
func Run(handler http.Handler, server Server) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, handler)) }()
	answer(map[string]any{
		"port":     listener.Addr().(*net.TCPAddr).Port,
		"versions": versions(),
	})
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		command, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch command {
		case "connected":
			answer(server.Connected())
		case "subscribed":
			answer(server.Subscribed())
		case "collect":
			debug.FreeOSMemory()
			answer(nil)
		case "watch", "held": // there is no event loop
			answer(nil)
		case "send":
			answer(send(server, strings.SplitN(rest, " ", 6)))
		default:
			log.Fatal(line)
		}
	}
}

func send(server Server, words []string) int {
	var numbers [5]float64
	for i := range numbers {
		number, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			log.Fatal(err)
		}
		numbers[i] = number
	}
	count, burst, channels, text := int(numbers[0]), int(numbers[1]), int(numbers[4]), words[5]
	end := time.Now().Add(time.Duration(numbers[3] * float64(time.Second)))
	names := []string{"news"}
	if channels > 0 {
		names = nil
		for i := range channels {
			names = append(names, fmt.Sprintf("c%d", i))
		}
	}
	done := 0
	for ; done < count && time.Now().Before(end); done++ {
		for range burst {
			for _, name := range names {
				server.Publish(name, fmt.Sprintf("$%d%s", time.Now().UnixNano(), text))
			}
		}
		time.Sleep(time.Duration(numbers[2] * float64(time.Second)))
	}
	return done
}

func versions() map[string]string {
	found := map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/gorilla/websocket" ||
				module.Path == "github.com/centrifugal/centrifuge" {
				found[module.Path] = module.Version
			}
		}
	}
	return found
}

func answer(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
