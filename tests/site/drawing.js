// What is wrong with a drawing that is shown alone, at the size that a page shows it in.
() => {
  const problems = []
  const texts = [...document.querySelectorAll("text")].filter(each => each.checkVisibility())
  const boxes = texts.map(each => each.getBoundingClientRect())
  texts.forEach((text, i) => {
    const [box, said] = [boxes[i], `"${text.textContent}"`]
    const size = parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a
    if (size < 10) problems.push(`${said} is ${size.toFixed(1)} px high`)
    if (box.left < 0 || box.right > innerWidth || box.bottom > innerHeight) {
      problems.push(`${said} is cut off`)
    }
    boxes.slice(0, i).forEach((other, j) => {
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left)
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top)
      if (across > 1 && down > size / 3) problems.push(`${said} lies over "${texts[j].textContent}"`)
    })
  })
  return problems
}
