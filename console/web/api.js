// The API's description as a page.
const described = await (await fetch('/api/openapi.json')).json();
document.getElementById('about').textContent = described.info.description;
const make = (tag, ...children) => {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
};
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, call] of Object.entries(methods)) {
    const lines = [];
    for (const p of call.parameters ?? []) lines.push(make('li', make('code', p.name), ` (${p.in}, ${p.schema.type}) ${p.description}`));
    const body = call.requestBody?.content['application/json'].schema.properties ?? {};
    for (const [name, schema] of Object.entries(body)) {
      lines.push(make('li', make('code', name), ` (body) ${schema.enum?.join(' | ') ?? schema.type} ${schema.description ?? ''}`));
    }
    for (const [code, answer] of Object.entries(call.responses)) lines.push(make('li', `${code}: ${answer.description}`));
    document.getElementById('paths').append(
      make('section', make('h2', make('code', `${method.toUpperCase()} ${path}`)), make('p', call.summary), make('ul', ...lines)));
  }
}
