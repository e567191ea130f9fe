/** A decoded message from the hub. It may have further fields. */
export interface Message {
  type: string;
  channel?: string;
  processId?: string;
  traceparent?: string;
  data?: unknown;
  timestamp?: string;
  /** The number of the message in the history of its channel; absent if it is in no history. */
  offset?: number;
  /** The life of the history that numbers the message. */
  epoch?: string;
  [field: string]: unknown;
}

/** The place of a message in the history of its channel. It can be stored as JSON. */
export interface Position {
  epoch: string;
  offset: number;
}

/**
 * What a subscription gets from the history of its channel at first; nothing by default. After a
 * reconnect the client gets the messages that it has missed, whatever these options are.
 */
export interface HistoryOptions {
  /** The number of newest messages to get. */
  last?: number | null;
  /**
   * Get all messages after this offset, or after this position; 0 for all that are kept. With a
   * position, a history that has begun anew meanwhile is reported as a gap.
   */
  since?: number | Position | null;
}

/** Messages of a channel are missing. The messages behind the gap follow. */
export interface Gap {
  channel: string;
  /**
   * `trimmed`: the hub no longer keeps them. `foreign_epoch`, `future_offset`: the history has begun
   * anew; everything that it keeps follows. `unavailable`: the hub cannot read the history now.
   * `no_history`: the hub keeps no history of the channel. `skipped`: the hub has not sent them,
   * although the client has asked twice.
   */
  reason: string;
  /** Number of missing messages; null if it is not known. */
  missing: number | null;
}

/** A connection that is subscribed to a channel. */
export interface Member {
  userId: string;
  connectionId: string;
  /** What the application of the hub tells about the connection. */
  info?: unknown;
}

/** The connections that are subscribed to a channel. */
export interface Presence {
  /** Number of connections. */
  connections: number;
  /** Number of users. */
  users: number;
  /** Absent if only the numbers were asked for. */
  members?: Member[];
  /** Whether there are more members than the hub lists. */
  truncated?: boolean;
}

/** The bounds of the messages that wait for a connection; the oldest are dropped to keep them. */
export interface QueueLimits {
  /** The largest number of messages; 1,000 by default. */
  messages?: number;
  /** The largest number of bytes of all messages together, encoded; 1 MiB by default. */
  bytes?: number;
  /** The longest time that a message waits, in seconds; 60 by default. */
  age?: number;
}

/** A token: a text, or a function that is called at every dial and may return null for no token. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** The options of a client. All durations are in seconds. */
export interface ClientOptions {
  /** Sent with every dial, among the subprotocols. If a function throws, the dial has failed. */
  token?: Token | null;
  /** The longest random wait after the first failure; 1 by default. */
  initialBackoff?: number;
  /** The longest random wait after any number of failures; 30 by default. */
  maxBackoff?: number;
  /** The factor by which the longest wait grows with each failure in a row; 2 by default. */
  backoffMultiplier?: number;
  /** The number of tolerated failures in a row; the next ends the client. No limit by default. */
  maxAttempts?: number;
  /** The duration of a connection after which failures are forgotten; 10 by default. */
  stableAfter?: number;
  /** The longest time for a dial, including the first answer of the hub; 10 by default. */
  openTimeout?: number;
  /** The silence after which the client pings the hub; 25 by default. */
  heartbeatInterval?: number;
  /** The longest wait for a message after such a ping; 10 by default. */
  pongTimeout?: number;
  /** The largest message to the hub, encoded, in bytes; 64 KiB by default. */
  maxSendBytes?: number;
  /** The bounds of the messages that wait for a connection; without it, `send` throws instead. */
  queue?: QueueLimits | null;
  /** Offers no subprotocols, for hubs that select none. Such a client cannot present a token. */
  plain?: boolean;
  /**
   * The address of the hub's event stream, for networks that block WebSockets: http, https, or
   * relative to the page. Without it, the client uses WebSockets only. The module `wshub-sse.js`
   * must be beside this one.
   */
  sse?: string | URL | null;
  /**
   * The number of WebSocket dials that have to fail before the client uses the event stream; 2 by
   * default. A client that had a WebSocket connection once never uses it. With 0, the client uses
   * nothing else.
   */
  fallbackAfter?: number;
  /** The WebSocket class, in runtimes without a global one, such as that of the package `ws`. */
  WebSocket?: (new (url: string, protocols: string[]) => any) | null;
}

export type ClientState = "disconnected" | "connecting" | "connected";

export interface ClientEventMap {
  state: CustomEvent<ClientState>;
  /** The client is connected for the first time, and the hub has served its subscriptions. */
  connect: CustomEvent<null>;
  /** The client is connected again after a number of dials, and its subscriptions are restored. */
  reconnect: CustomEvent<{ attempts: number }>;
  /** The connection has ended. An `error` with the reason comes before, except after `close`. */
  disconnect: CustomEvent<null>;
  /** An error that no call throws: a failed dial, a lost connection, a refused subscription, …. */
  error: CustomEvent<ClientError>;
  /** A message from the hub, except the answers to the client itself. */
  message: CustomEvent<Message>;
  /** Messages are missing. The event comes before the messages behind the gap. */
  gap: CustomEvent<Gap>;
  /** The last event. It has the error that has ended the client, or null after `close`. */
  end: CustomEvent<ClientError | null>;
}

type Listener<E> = ((event: E) => unknown) | { handleEvent(event: E): unknown };

/**
 * A client of a hub that reconnects by itself and restores its subscriptions. It dials when it is
 * constructed, and goes on until it is closed or an error ends it.
 *
 * If the hub keeps a history of a channel, the client gets the messages that it has missed, each
 * once and in order. It dispatches `gap` if some cannot be had.
 *
 * In a browser it also dials at once when the browser comes online or the page becomes visible.
 * When a listener throws, the runtime reports the error as for every `EventTarget`, and the client
 * goes on.
 */
export class ReconnectingClient extends EventTarget {
  /**
   * @param url  The address of the hub: ws, wss, http or https, or relative to the page.
   * @throws TypeError  The address or an option is not valid, or the runtime has no WebSocket.
   */
  constructor(url: string | URL, options?: ClientOptions);

  readonly state: ClientState;

  /**
   * The transport of the connection, or of the last dial. An event stream only receives: `send`
   * throws a NotConnectedError or queues, and `publish` and `presence` reject with one.
   */
  readonly transport: "websocket" | "sse";

  /** A promise that resolves after `close`, or rejects with the error that ended the client. */
  readonly ended: Promise<void>;

  /** Number of parts of WebSocket messages that were no messages, and were skipped. */
  readonly unreadableMessages: number;

  /** Number of messages that came again and were not dispatched again. */
  readonly duplicateMessages: number;

  /**
   * Subscribes to a channel, now and after every reconnect. A second call does nothing.
   *
   * @param options  What to get from the history of the channel.
   * @returns A promise that resolves when the hub has confirmed the subscription, across reconnects
   *   if necessary. It rejects with a SubscriptionRefusedError, or with the error that has ended
   *   the client. Callers may ignore it, because a refusal is also dispatched as `error`.
   * @throws MessageTooLargeError  The name alone is larger than a message may be.
   * @throws TypeError  The options are not valid.
   */
  subscribe(channel: string, options?: HistoryOptions): Promise<void>;

  /** Ends the subscription to a channel; does nothing if there is none. */
  unsubscribe(channel: string): void;

  /**
   * Returns the position of the newest message that was dispatched, also after the end of the
   * client. It is null without a subscription, before its confirmation, and without a history.
   */
  position(channel: string): Position | null;

  /**
   * Publishes an event to a channel.
   *
   * @returns A promise that resolves when the hub has published the event. It rejects with a
   *   PublishRefusedError, a NotConnectedError, or the error that has ended the connection. In the
   *   last case the hub may have published the event.
   */
  publish(channel: string, data: unknown): Promise<void>;

  /**
   * Asks the hub who is subscribed to a channel.
   *
   * @param options  `count`: ask only for the numbers, without the members.
   * @returns A promise that rejects with a PresenceRefusedError, a NotConnectedError, or the error
   *   that has ended the connection.
   */
  presence(channel: string, options?: { count?: boolean }): Promise<Presence>;

  /**
   * Sends a message as it is: a text, or an object that is encoded as JSON.
   *
   * @throws NotConnectedError  There is neither a connection nor a queue.
   * @throws ClientClosedError  The client has ended.
   */
  send(message: string | object): void;

  /** Closes the client. @returns A promise that resolves when the connection is closed. */
  close(): Promise<void>;

  addEventListener<K extends keyof ClientEventMap>(
    type: K,
    listener: Listener<ClientEventMap[K]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;

  removeEventListener<K extends keyof ClientEventMap>(
    type: K,
    listener: Listener<ClientEventMap[K]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** The base class of all errors of the client. */
export class ClientError extends Error {
  /** The name of the class. */
  name: string;
  constructor(message: string, fields?: object);
}

/** A dial has failed; the client tries again. */
export class DialError extends ClientError {
  /** The close code; 1006 without a close frame, and absent after `openTimeout`. */
  readonly code?: number;
  readonly reason?: string;
  /** The wait that the hub asks for, in seconds; null if it asks for none. */
  readonly retryAfter?: number | null;
}

/** The connection was lost; the client tries again. */
export class LostError extends ClientError {
  /** The close code; 1006 without a close frame. */
  readonly code: number;
  readonly reason: string;
  /** The wait that the hub asks for, in seconds; null if it asks for none. */
  readonly retryAfter?: number | null;
}

/** The hub has refused the client, and would refuse it again; the client ends. */
export class RefusedError extends ClientError {
  /** The HTTP status that the close code stands for: 401 or 403. */
  readonly status: number;
  readonly reason: string;
}

/** The hub has closed the connection with a terminal code; the client ends. */
export class ClosedError extends ClientError {
  readonly code: number;
  readonly reason: string;
}

/** There were more failures in a row than `maxAttempts`; the client ends. */
export class RetriesExhaustedError extends ClientError {
  /** The last failure. */
  readonly cause: ClientError;
}

/** There is no connection to send on, and the message is not queued. */
export class NotConnectedError extends ClientError {}

/** The client has been closed, or has ended with an error. */
export class ClientClosedError extends ClientError {}

/** The hub refuses a subscription. */
export class SubscriptionRefusedError extends ClientError {
  readonly channel: string;
  /** The hub's code for programs; empty if it sends none. */
  readonly code: string;
}

/** The hub refuses to publish a message. */
export class PublishRefusedError extends ClientError {
  readonly channel: string;
  /** The hub's code for programs; `not_served` if it publishes no messages of clients. */
  readonly code: string;
}

/** The hub refuses to tell who is subscribed to a channel. */
export class PresenceRefusedError extends ClientError {
  readonly channel: string;
  /** The hub's code for programs; `not_served` if it does not know who is present. */
  readonly code: string;
}

/** A message exceeds `maxSendBytes`; it was not sent. */
export class MessageTooLargeError extends ClientError {}

/** Queued messages were dropped, because a bound was reached. */
export class DroppedError extends ClientError {
  /** Number of dropped messages. */
  readonly count: number;
}
