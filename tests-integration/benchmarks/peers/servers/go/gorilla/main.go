// gorilla/websocket: two goroutines and a Go channel for each connection, as in its chat example,
// and one PreparedMessage for all subscribers.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"peers/control"
)

const (
	queueSize    = 256
	pingInterval = 30 * time.Second
	pongTimeout  = 60 * time.Second
	writeTimeout = 10 * time.Second
)

type subscriber struct {
	connection *websocket.Conn
	queue      chan *websocket.PreparedMessage
}

type hub struct {
	lock          sync.RWMutex
	connected     int
	subscribed    int
	subscriptions map[string]map[*subscriber]struct{}
}

func (h *hub) Connected() int {
	h.lock.RLock()
	defer h.lock.RUnlock()
	return h.connected
}

func (h *hub) Subscribed() int {
	h.lock.RLock()
	defer h.lock.RUnlock()
	return h.subscribed
}

func (h *hub) Publish(channel, data string) {
	message, err := websocket.NewPreparedMessage(
		websocket.TextMessage, control.Encode(channel, data))
	if err != nil {
		log.Fatal(err)
	}
	h.lock.RLock()
	defer h.lock.RUnlock()
	for each := range h.subscriptions[channel] {
		select {
		case each.queue <- message:
		default: // the queue is full: this subscriber misses the message
		}
	}
}

func (h *hub) subscribe(channel string, each *subscriber) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.subscriptions[channel] == nil {
		h.subscriptions[channel] = make(map[*subscriber]struct{})
	}
	h.subscriptions[channel][each] = struct{}{}
	h.subscribed++
}

func (h *hub) remove(each *subscriber) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.connected--
	for _, subscribers := range h.subscriptions {
		delete(subscribers, each)
	}
	close(each.queue)
}

func (h *hub) read(each *subscriber) {
	defer h.remove(each)
	extend := func(string) error {
		return each.connection.SetReadDeadline(time.Now().Add(pongTimeout))
	}
	each.connection.SetPongHandler(extend)
	_ = extend("")
	for {
		_, payload, err := each.connection.ReadMessage()
		if err != nil {
			return
		}
		var message control.Message
		if json.Unmarshal(payload, &message) != nil {
			return
		}
		if message.Type == "subscribe" {
			h.subscribe(message.Channel, each)
		} else {
			h.Publish(message.Channel, message.Data)
		}
	}
}

func write(each *subscriber) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	defer each.connection.Close()
	for {
		select {
		case message, ok := <-each.queue:
			_ = each.connection.SetWriteDeadline(time.Now().Add(writeTimeout))
			if !ok || each.connection.WritePreparedMessage(message) != nil {
				return
			}
		case <-ticker.C:
			_ = each.connection.SetWriteDeadline(time.Now().Add(writeTimeout))
			if each.connection.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}

func main() {
	h := &hub{subscriptions: make(map[string]map[*subscriber]struct{})}
	upgrader := websocket.Upgrader{
		ReadBufferSize:    1024,
		WriteBufferSize:   1024,
		EnableCompression: slices.Contains(os.Args, "--compression"),
	}
	handle := func(w http.ResponseWriter, r *http.Request) {
		connection, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		each := &subscriber{connection, make(chan *websocket.PreparedMessage, queueSize)}
		h.lock.Lock()
		h.connected++
		h.lock.Unlock()
		go write(each)
		go h.read(each)
	}
	control.Run(http.HandlerFunc(handle), h)
}
