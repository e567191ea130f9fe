/** A decoded message from the hub. It may have further fields. */
export interface Message {
  type: string;
  channel?: string;
  processId?: string;
  data?: unknown;
  timestamp?: string;
  [field: string]: unknown;
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
  /** The last event. It has the error that has ended the client, or null after `close`. */
  end: CustomEvent<ClientError | null>;
}

type Listener<E> = ((event: E) => unknown) | { handleEvent(event: E): unknown };

/**
 * A client of a hub that reconnects by itself and restores its subscriptions. It dials when it is
 * constructed, and goes on until it is closed or an error ends it.
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

  /** A promise that resolves after `close`, or rejects with the error that ended the client. */
  readonly ended: Promise<void>;

  /** Number of parts of WebSocket messages that were no messages, and were skipped. */
  readonly unreadableMessages: number;

  /**
   * Subscribes to a channel, now and after every reconnect. A second call does nothing.
   *
   * @returns A promise that resolves when the hub has confirmed the subscription, across reconnects
   *   if necessary. It rejects with a SubscriptionRefusedError, or with the error that has ended
   *   the client. Callers may ignore it, because a refusal is also dispatched as `error`.
   * @throws MessageTooLargeError  The name alone is larger than a message may be.
   */
  subscribe(channel: string): Promise<void>;

  /** Ends the subscription to a channel; does nothing if there is none. */
  unsubscribe(channel: string): void;

  /**
   * Publishes an event to a channel.
   *
   * @returns A promise that resolves when the hub has published the event. It rejects with a
   *   PublishRefusedError, a NotConnectedError, or the error that has ended the connection. In the
   *   last case the hub may have published the event.
   */
  publish(channel: string, data: unknown): Promise<void>;

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

/** A message exceeds `maxSendBytes`; it was not sent. */
export class MessageTooLargeError extends ClientError {}

/** Queued messages were dropped, because a bound was reached. */
export class DroppedError extends ClientError {
  /** Number of dropped messages. */
  readonly count: number;
}
