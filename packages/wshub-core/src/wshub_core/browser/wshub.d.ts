/** A message of the hub, decoded. Fields that are not named here are as the hub has sent them. */
export interface Message {
  type: string;
  channel?: string;
  processId?: string;
  data?: unknown;
  timestamp?: string;
  [field: string]: unknown;
}

/** The bounds of what waits while there is no connection; the oldest is dropped for the newest. */
export interface QueueLimits {
  /** The most messages; 1000 unless set. */
  messages?: number;
  /** The most bytes of all together, encoded; 1 MiB unless set. */
  bytes?: number;
  /** How long a message waits at most, in seconds; 60 unless set. */
  age?: number;
}

/** What a client presents: a text, or a function that is asked at every dial; null for nothing. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** Durations are seconds. */
export interface ClientOptions {
  /** Presented at every dial, among the subprotocols. A function that throws is a failed dial. */
  token?: Token | null;
  /** The bound of the random wait after the first failure; 1 unless set. */
  initialBackoff?: number;
  /** The highest bound; 30 unless set. */
  maxBackoff?: number;
  /** By what the bound grows with each failure in a row; 2 unless set. */
  backoffMultiplier?: number;
  /** How many failures in a row are tolerated; the next ends the client. No limit unless set. */
  maxAttempts?: number;
  /** How long a connection must hold before failures are forgotten; 10 unless set. */
  stableAfter?: number;
  /** For a dial, up to the first answer of the hub; 10 unless set. */
  openTimeout?: number;
  /** After how long without a message the client pings; 25 unless set. */
  heartbeatInterval?: number;
  /** How long after such a ping the connection counts as lost; 10 unless set. */
  pongTimeout?: number;
  /** The most bytes of one message to the hub, encoded; 64 KiB unless set. */
  maxSendBytes?: number;
  /** Keeps what is sent while there is no connection; without it `send` throws then. */
  queue?: QueueLimits | null;
  /** Offers no subprotocols, for hubs that select none; there can be no token then. */
  plain?: boolean;
  /** The class to connect with, in runtimes that have no global one; such as that of `ws`. */
  WebSocket?: (new (url: string, protocols: string[]) => any) | null;
}

export type ClientState = "disconnected" | "connecting" | "connected";

export interface ClientEventMap {
  state: CustomEvent<ClientState>;
  /** Connected for the first time; all subscriptions are in place. */
  connect: CustomEvent<null>;
  /** Connected again, after so many dials; all subscriptions are in place again. */
  reconnect: CustomEvent<{ attempts: number }>;
  /** The connection is gone. Why has come before, as `error`, unless the client was closed. */
  disconnect: CustomEvent<null>;
  error: CustomEvent<ClientError>;
  /** Everything that the hub sends, except the answers to the client itself. */
  message: CustomEvent<Message>;
  /** The last event: with the error that has ended the client, or null after `close`. */
  end: CustomEvent<ClientError | null>;
}

type Listener<E> = ((event: E) => unknown) | { handleEvent(event: E): unknown };

/**
 * A client of a hub, which comes back by itself, with its subscriptions. It dials as soon as it is
 * made, and until it is closed or the hub does not want it.
 *
 * In a browser it also dials at once when the browser comes online or the page becomes visible. A
 * listener that throws is reported as every other one is, and changes nothing.
 */
export class ReconnectingClient extends EventTarget {
  /**
   * @param url  Where the hub is: ws, wss, http or https, or relative to the page.
   * @throws TypeError  The address or an option cannot work, or the runtime has no WebSocket.
   */
  constructor(url: string | URL, options?: ClientOptions);

  readonly state: ClientState;

  /** Resolved after `close`, rejected with the error that has ended the client. */
  readonly ended: Promise<void>;

  /** How many texts have come that were no messages, over all connections; they are skipped. */
  readonly unreadableMessages: number;

  /**
   * Listens to a channel, now and after every reconnect; a second time does nothing.
   *
   * @returns The outcome: resolved when the hub has confirmed, also if that takes a reconnect;
   *   rejected with a SubscriptionRefusedError, or with the error that has ended the client. Nobody
   *   has to wait for it, because refusals are also an `error`.
   * @throws MessageTooLargeError  The name alone is larger than what the hub takes.
   */
  subscribe(channel: string): Promise<void>;

  /** Ends a subscription; nothing happens if there is none. */
  unsubscribe(channel: string): void;

  /**
   * Publishes an event to a channel.
   *
   * @returns The outcome: resolved when the hub has published it; rejected with a
   *   PublishRefusedError, a NotConnectedError, or the error that has ended the connection. After
   *   the last nobody knows whether it was published.
   */
  publish(channel: string, data: unknown): Promise<void>;

  /**
   * Sends a message as it is: a text, or an object that becomes JSON.
   *
   * @throws NotConnectedError  There is no connection, and no queue.
   * @throws ClientClosedError  The client has ended.
   */
  send(message: string | object): void;

  /** Ends the client at once and for good. @returns Resolved when the connection is closed. */
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

/** The root of every error of the client. */
export class ClientError extends Error {
  /** The name of the class. */
  name: string;
  constructor(message: string, fields?: object);
}

/** One dial has failed; the client tries again. */
export class DialError extends ClientError {
  /** The close code, if the hub has answered at all; 1006 if there was no close frame. */
  readonly code?: number;
  readonly reason?: string;
  /** In how many seconds the hub wants to be asked again; null if it has not said. */
  readonly retryAfter?: number | null;
}

/** The connection was lost; the client tries again. */
export class LostError extends ClientError {
  /** The close code; 1006 if there was no close frame. */
  readonly code: number;
  readonly reason: string;
  /** In how many seconds the hub wants to be asked again; null if it has not said. */
  readonly retryAfter?: number | null;
}

/** The hub does not let this client in, and trying again would not help. */
export class RefusedError extends ClientError {
  /** What the HTTP status would be: 401 or 403. */
  readonly status: number;
  readonly reason: string;
}

/** The hub has closed with a code that says not to come back. */
export class ClosedError extends ClientError {
  readonly code: number;
  readonly reason: string;
}

/** More failures in a row than `maxAttempts` allows. */
export class RetriesExhaustedError extends ClientError {
  /** The last one. */
  readonly cause: ClientError;
}

/** There is no connection to send on, and nothing is queued. */
export class NotConnectedError extends ClientError {}

/** The client has been closed, or has ended with an error. */
export class ClientClosedError extends ClientError {}

/** The hub does not let this client listen to a channel. */
export class SubscriptionRefusedError extends ClientError {
  readonly channel: string;
  /** What is wrong, for programs; empty if the hub has not said. */
  readonly code: string;
}

/** The hub does not take this message. */
export class PublishRefusedError extends ClientError {
  readonly channel: string;
  /** What is wrong, for programs. */
  readonly code: string;
}

/** A message is larger than the hub takes; nothing was sent. */
export class MessageTooLargeError extends ClientError {}

/** Messages that waited to be sent were dropped, because a bound was reached. */
export class DroppedError extends ClientError {
  /** How many. */
  readonly count: number;
}
