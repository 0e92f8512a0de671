// Requests that change something. The server wants its own header on them: a foreign page can't send it.

export async function post(path, body = {}) {
  try {
    const answer = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Seedguide': '1' },
      body: JSON.stringify(body),
      keepalive: true,
    });
    const told = await answer.json().catch(() => ({}));
    return { ok: answer.ok, status: answer.status, ...told };
  } catch {
    return { ok: false, status: 0, why: 'no contact with the console' };
  }
}

export async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}
