// What is wrong with the page that is shown, as seen by somebody who looks at it.
() => {
  const problems = []
  const article = document.querySelector("article")
  const named = element => {
    const text = (element.textContent ?? "").trim().replace(/\s+/g, " ").slice(0, 50)
    return `<${element.tagName.toLowerCase()}> "${text}"`
  }
  const shown = element => element.checkVisibility({ opacityProperty: true, visibilityProperty: true })

  const wide = document.documentElement.scrollWidth
  if (wide > innerWidth) problems.push(`scrolls sideways: it is ${wide} px wide`)

  // What sticks out of its column, or is cut off there. Tables and code scroll in boxes of their own.
  const own = new Set(["auto", "scroll"])
  const column = article.getBoundingClientRect()
  // On a telephone, the theme lets code reach the edges of the screen.
  const [from, to] = innerWidth < 700 ? [0, innerWidth] : [column.left - 4, column.right + 4]
  for (const element of article.querySelectorAll("*")) {
    const { left, right, width } = element.getBoundingClientRect()
    if (width < 2 || (right <= to && left >= from)) continue
    let box = element
    while (box !== article && !own.has(getComputedStyle(box).overflowX)) box = box.parentElement
    if (box === article && shown(element)) {
      const out = Math.ceil(Math.max(right - to, from - left))
      problems.push(`sticks out of its column by ${out} px: ${named(element)}`)
    }
  }

  for (const image of document.images) {
    if (!image.complete || image.naturalWidth === 0) problems.push(`no image: ${image.src}`)
    else if (!image.alt) problems.push(`an image without words for it: ${image.src}`)
  }

  // The same heading twice, below the same headings.
  const path = []
  const seen = new Set()
  for (const heading of article.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const level = Number(heading.tagName[1])
    path.length = level - 1
    path.push(heading.textContent.replace("¶", "").trim().replace(/\s+/g, " "))
    const name = path.filter(Boolean).join(" / ")
    if (seen.has(name)) problems.push(`twice the same heading: ${name}`)
    seen.add(name)
  }
  const missing = document.title.startsWith("404") || article.innerText.startsWith("404")
  if (article.innerText.length < 200 && !missing) problems.push("there is next to nothing on it")

  // Text: whether it can be read, and whether it is markup that nothing rendered.
  const rgba = colour => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number)
    return { rgb: [red, green, blue], alpha }
  }
  const over = (upper, lower) => lower.map((each, i) => upper.rgb[i] * upper.alpha + each * (1 - upper.alpha))
  const background = element => {
    if (!element) return [255, 255, 255]
    const own = rgba(getComputedStyle(element).backgroundColor)
    return own.alpha === 1 ? own.rgb : over(own, background(element.parentElement))
  }
  const luminance = rgb => {
    const [r, g, b] = rgb.map(each => {
      const part = each / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const words = document.createTreeWalker(article, NodeFilter.SHOW_TEXT)
  // Among it, a list right below other text, which is none.
  const markup = /<!--|-->|```|--8<--|\]\(|^!!!|^:::|\*\*|\{:? ?[.#]\w|(^|\n)[-*] /
  const faint = new Map()
  while (words.nextNode()) {
    const text = words.currentNode.data.trim()
    const element = words.currentNode.parentElement
    if (!text || element.closest("svg, style, script") || !shown(element)) continue
    if (!element.closest("code, pre") && markup.test(words.currentNode.data)) {
      problems.push(`markup that nothing rendered: "${text.slice(0, 50)}"`)
    }
    const style = getComputedStyle(element)
    const behind = background(element)
    const lights = [luminance(over(rgba(style.color), behind)), luminance(behind)].sort((one, other) => one - other)
    const ratio = (lights[1] + 0.05) / (lights[0] + 0.05)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.6 && style.fontWeight >= 700)
    if (ratio < (large ? 3 : 4.5)) {
      const what = `${style.color} on ${behind.map(Math.round)}, contrast ${ratio.toFixed(1)}`
      faint.set(what, `${named(element)}, ${(faint.get(what)?.count ?? 0) + 1}`)
    }
  }
  for (const [what, where] of faint) problems.push(`hard to read: ${what}: ${where}`)

  const ids = [...document.querySelectorAll("[id]")].map(each => each.id)
  const links = [...document.querySelectorAll("a[href]")].map(each => each.href)
  const drawings = [...document.images]
    .filter(image => image.src.endsWith(".svg"))
    .map(image => ({ url: image.src, width: image.clientWidth, height: image.clientHeight }))
  return { problems, ids, links, drawings }
}
