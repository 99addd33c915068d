// Asking again where the service is busy: it says itself after how many seconds.

const TRIES = 6;
const LONGEST_S = 30;

/** Seconds after which to ask again, from the header Retry-After; null where it says nothing of use. */
export function retryAfter(header: string | null): number | null {
  const seconds = header === null || header.trim() === "" ? NaN : Number(header);
  return seconds >= 0 ? Math.min(seconds, LONGEST_S) : null;
}

/** The first answer that is not 503, or the last of some tries. */
export async function patiently(
  ask: () => Promise<Response>,
  pause: (seconds: number) => Promise<void> = sleep,
): Promise<Response> {
  for (let tries = 1; ; tries++) {
    const response = await ask();
    const seconds = response.status === 503 ? retryAfter(response.headers.get("Retry-After")) : null;
    if (seconds === null || tries === TRIES) return response;
    await pause(seconds);
  }
}

function sleep(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, 1000 * seconds));
}
