// Centrifuge: its node, its WebSocket handler, and its JSON protocol.
package main

import (
	"log"
	"net/http"
	"os"
	"slices"

	"github.com/centrifugal/centrifuge"

	"peers/control"
)

type server struct{ node *centrifuge.Node }

func (s server) Connected() int  { return s.node.Hub().NumClients() }
func (s server) Subscribed() int { return s.node.Hub().NumSubscriptions() }

func (s server) Publish(channel, data string) {
	if _, err := s.node.Publish(channel, control.Encode(channel, data)); err != nil {
		log.Fatal(err)
	}
}

func main() {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, reply centrifuge.PublishCallback) {
			reply(centrifuge.PublishReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		Compression: slices.Contains(os.Args, "--compression"),
	})
	anonymous := func(w http.ResponseWriter, r *http.Request) {
		credentials := &centrifuge.Credentials{UserID: ""}
		handler.ServeHTTP(w, r.WithContext(centrifuge.SetCredentials(r.Context(), credentials)))
	}
	control.Run(http.HandlerFunc(anonymous), server{node})
}
